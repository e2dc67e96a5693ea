import { closeSync, existsSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import type { StorageConfig } from "../config.ts";
import { StartError } from "../errors.ts";
import { openAdministration, type Administration } from "./administration.ts";
import { syncFolder } from "./atomic-file.ts";
import { readSeal } from "./master-key.ts";
import { sealedColumns } from "./resealing.ts";
import type { Seal } from "./seal.ts";
import { toCount, type Row, type Sql } from "./sql.ts";
import { sqlitePathOf } from "./sqlite-store.ts";

/** What a look at a database has found. */
export interface DatabaseReport {
  /** What is wrong, one sentence each; empty for a sound database. */
  readonly problems: readonly string[];
  /** How many rows the tables have. */
  readonly rows: Readonly<Record<CountedTable, number>>;
  /** Deliveries that are still to be made. */
  readonly pending: number;
}

const countedTables = [
  "organizations",
  "applications",
  "endpoints",
  "messages",
  "deliveries",
  "attempts",
] as const;
type CountedTable = (typeof countedTables)[number];

/** Rows that no transaction of the service can leave behind, whenever it dies. */
const orphans: readonly (readonly [what: string, query: string])[] = [
  [
    "deliveries of messages that are not there",
    `select count(*) from deliveries where not exists (
       select 1 from messages where messages.application_id = deliveries.application_id and id = message_id)`,
  ],
  [
    "attempts of messages that are not there",
    `select count(*) from attempts where not exists (
       select 1 from messages where messages.application_id = attempts.application_id and messages.id = message_id)`,
  ],
  [
    "endpoints of applications that are not there",
    `select count(*) from endpoints where not exists (select 1 from applications where id = application_id)`,
  ],
  [
    "applications of organizations that are not there",
    `select count(*) from applications where not exists (select 1 from organizations where id = organization_id)`,
  ],
];

/**
 * Looks at the whole database: for damage, for rows without what they belong to, and whether the master keys open every
 * secret. A service may go on to run; a large database takes minutes.
 *
 * @throws StartError when there is no database, or it cannot be opened
 */
export async function checkDatabase(storage: StorageConfig): Promise<DatabaseReport> {
  const administration = await openAdministration(storage);
  try {
    return await administration.snapshot(() => inspect(administration));
  } finally {
    await administration.close();
  }
}

async function inspect(administration: Administration): Promise<DatabaseReport> {
  const { sql } = administration;
  const problems: string[] = [];
  /** In a damaged database any question may fail: the others are asked all the same. */
  const ask = async <T>(question: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await question();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (!problems.includes(message)) problems.push(message);
      return otherwise;
    }
  };
  const count = (query: string) => ask(async () => toCount(await sql.get(query)), 0);

  problems.push(...(await ask(() => administration.findDamage(), [])));
  for (const [what, query] of orphans) {
    const found = await count(query);
    if (found > 0) problems.push(`There are ${found} ${what}.`);
  }
  problems.push(...(await ask(() => findUnreadable(sql, administration.masterKeyFile), [])));
  const rows = {} as Record<CountedTable, number>;
  for (const table of countedTables) rows[table] = await count(`select count(*) from ${table}`);
  const pending = await count("select count(*) from deliveries where state = 'pending'");
  return { problems, rows, pending };
}

const batchSize = 500;
/** Beyond as many, one sentence says how many more there are. */
const maxNamed = 20;

/** The secrets that do not open, or that hold something else than they should. */
async function findUnreadable(sql: Sql, masterKeyFile: string): Promise<string[]> {
  const seal = readSeal(masterKeyFile);
  const check = await sql.get("select value from facts where name = 'master_key'");
  const problems = check === undefined ? ["The database has no check value of its master key."] : [];
  for (let after: string | null = ""; after !== null;) {
    const rows: Row[] = await sql.all(
      `select id, ${sealedColumns.join(", ")} from endpoints where id > ? order by id limit ${batchSize}`,
      after,
    );
    problems.push(...rows.flatMap((row) => unreadableColumns(row, seal)));
    after = rows.length < batchSize ? null : (rows.at(-1)?.["id"] as string);
  }
  const more = problems.length - maxNamed;
  return more > 0 ? [...problems.slice(0, maxNamed), `There are ${more} more secrets like that.`] : problems;
}

function unreadableColumns(row: Row, seal: Seal): string[] {
  const id = row["id"] as string;
  return sealedColumns.flatMap((column) => {
    const sealed = row[column] as string | null;
    if (sealed === null) return [];
    try {
      const text = seal.open(sealed, `${id}.${column}`);
      if (column !== "url") JSON.parse(text);
      return [];
    } catch {
      // The parser's message may quote the secret.
      return [`The ${column} of the endpoint "${id}" cannot be read with the master keys that are there.`];
    }
  });
}

/** A backup that was made. */
export interface Backup {
  /** Absolute. */
  readonly file: string;
  readonly bytes: number;
}

/** Pages that are copied at a time: 1 MiB of a database with the usual pages. */
const pagesAtATime = 256;

/**
 * Copies the database of a data folder into one file that only its owner may read, while the service goes on. It holds
 * the state of the moment at which it began. The master keys are not in it. To restore it, stop the service, put the file
 * in the place of `hookplane.db`, and delete `hookplane.db-wal` and `hookplane.db-shm`.
 *
 * @param onProgress told how many pages are copied, of how many
 * @throws StartError when there is no database, the file is there already, or it cannot be written
 */
export async function backupDatabase(
  storage: StorageConfig,
  target: string,
  onProgress: (copied: number, total: number) => void = () => undefined,
): Promise<Backup> {
  if (storage.databaseUrl !== null) {
    throw new StartError(
      "settings_invalid",
      "A PostgreSQL database is backed up with its own tools, such as pg_dump or continuous archiving.",
    );
  }
  const file = resolve(target);
  if (existsSync(file)) {
    throw new StartError(
      "settings_invalid",
      `The file "${file}" is there already: name another, or delete it first.`,
    );
  }
  // Whoever finds the file under its own name finds it whole.
  const partial = `${file}.partial`;
  const administration = await openAdministration(storage);
  try {
    clear(partial);
    closeSync(openSync(partial, "wx", 0o600));
    await copy(sqlitePathOf(storage.dataDir), partial, onProgress);
    finish(partial);
    renameSync(partial, file);
    syncFolder(dirname(file));
    return { file, bytes: statSync(file).size };
  } catch (cause) {
    clear(partial);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StartError(
      "disk_unusable",
      `The backup "${file}" cannot be made (${reason}). Name a file on a disk that has room for it.`,
      { cause },
    );
  } finally {
    await administration.close();
  }
}

async function copy(
  path: string,
  partial: string,
  onProgress: (copied: number, total: number) => void,
): Promise<void> {
  const source = new DatabaseSync(path);
  try {
    // Without a transaction that holds on to one state, the copy would begin anew with each write of the service.
    source.exec("begin");
    source.prepare("select count(*) from sqlite_schema").get();
    const pages = await backup(source, partial, {
      rate: pagesAtATime,
      progress: ({ totalPages, remainingPages }) => {
        onProgress(totalPages - remainingPages, totalPages);
      },
    });
    onProgress(pages, pages);
  } finally {
    source.close();
  }
}

/** Makes the copy a single file, and looks whether it is sound. */
function finish(partial: string): void {
  const copied = new DatabaseSync(partial);
  try {
    copied.exec("pragma synchronous = full; pragma journal_mode = delete");
    const rows = copied.prepare("pragma quick_check(1)").all();
    const [problem] = rows.map((row) => String(row["quick_check"])).filter((line) => line !== "ok");
    if (problem !== undefined) throw new Error(`the database is damaged: ${problem}`);
  } finally {
    copied.close();
  }
}

function clear(partial: string): void {
  for (const suffix of ["", "-journal", "-wal", "-shm"]) rmSync(`${partial}${suffix}`, { force: true });
}
