import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { StartError } from "../errors.ts";
import { createFileAtomically, writeFileAtomically } from "./atomic-file.ts";
import { takeFileLock } from "./file-lock.ts";
import { createSeal, keyIdOf, type Seal } from "./seal.ts";
import type { Sql } from "./sql.ts";
import { toStartError } from "./start-failure.ts";

const keyBytes = 32;
const checkPlace = "facts.master_key";

/**
 * The seal of a database, with the master keys of a file. A database without a check value is new: it gets one, and so the
 * file is made where it is missing. The file is looked at again when a text names a key that was not in it.
 *
 * @param path the file: a key in base64 on each line, the newest first
 * @throws StartError `master_key_unusable` when the file is missing, unreadable or another database's
 */
export async function openSeal(sql: Sql, path: string): Promise<Seal> {
  const isNew = (await readCheckValue(sql)) === undefined;
  let isMade = false;
  if (!existsSync(path)) {
    if (!isNew) throw unusable(path, "is missing, and the secrets in the database cannot be read without it");
    isMade = createMasterKeyFile(path);
  }
  const seal = watchMasterKeys(path);
  if (isNew) {
    // Another node may be first: then its key is the right one.
    await sql.run(
      "insert into facts (name, value) values ('master_key', ?) on conflict (name) do nothing",
      seal.close("right", checkPlace),
    );
  }
  try {
    seal.open((await readCheckValue(sql)) ?? "", checkPlace);
  } catch (cause) {
    if (isMade) rmSync(path, { force: true });
    throw unusable(path, "has no key that opens this database", cause);
  }
  return seal;
}

/**
 * The seal of a file's keys for a database that only looks at it.
 *
 * @throws StartError `master_key_unusable`
 */
export function readSeal(path: string): Seal {
  return createSeal(readMasterKeys(path));
}

/** Seals the check value with the newest key, once everything else is. */
export async function resealCheckValue(sql: Sql, seal: Seal): Promise<void> {
  const known = await readCheckValue(sql);
  if (known === undefined || seal.isCurrent(known)) return;
  await sql.run(
    "update facts set value = ? where name = 'master_key' and value = ?",
    seal.close(seal.open(known, checkPlace), checkPlace),
    known,
  );
}

/**
 * Adds a new key in front of a file's others, which stay: what is sealed from now on is sealed with it.
 *
 * @returns the ids of the keys, the newest first
 * @throws StartError `master_key_unusable`, also where another process is changing the file
 */
export async function addMasterKey(path: string): Promise<readonly string[]> {
  return await changeKeyFile(path, async (keys) => [randomBytes(keyBytes), ...keys]);
}

/**
 * Takes the keys out of a file that nothing is sealed with any more, but never the newest.
 *
 * @param needed the ids of keys that something is sealed with; asked while nobody else can change the file
 * @returns the ids of the keys that are left, the newest first
 * @throws StartError `master_key_unusable`, also where another process is changing the file
 */
export async function dropMasterKeys(
  path: string,
  needed: () => Promise<ReadonlySet<string>>,
): Promise<readonly string[]> {
  return await changeKeyFile(path, async (keys) => {
    const ids = await needed();
    return keys.filter((key, index) => index === 0 || ids.has(keyIdOf(key)));
  });
}

async function changeKeyFile(
  path: string,
  change: (keys: readonly Uint8Array[]) => Promise<readonly Uint8Array[]>,
): Promise<readonly string[]> {
  // Two changes at a time would lose the key of one of them, with all that was sealed with it.
  const lock = takeFileLock(`${path}.lock`);
  if (lock === null)
    throw failure(path, "is being changed by another process: try again once that has ended");
  try {
    const keys = readMasterKeys(path);
    const changed = await change(keys);
    if (changed.length !== keys.length) writeMasterKeys(path, changed);
    return changed.map(keyIdOf);
  } finally {
    lock.release();
  }
}

/** A seal whose keys are read again when the file has changed. */
function watchMasterKeys(path: string): Seal {
  let seen = versionOf(path);
  return createSeal(readMasterKeys(path), () => {
    const version = versionOf(path);
    if (version === seen) return null;
    const keys = readMasterKeys(path);
    seen = version;
    return keys;
  });
}

/** What is another one once a file has been written or replaced. */
function versionOf(path: string): string {
  const status = statSync(path, { throwIfNoEntry: false });
  return status === undefined ? "" : `${status.ino} ${status.mtimeMs} ${status.size}`;
}

function readMasterKeys(path: string): readonly Uint8Array[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    if (isMissing) throw unusable(path, "is missing", cause);
    throw failure(path, "cannot be read: let the user who runs the service read it", cause);
  }
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const keys = lines.map((line) => Buffer.from(line, "base64"));
  const isRight = keys.every((key, n) => key.length === keyBytes && key.toString("base64") === lines[n]);
  if (keys.length === 0 || !isRight || new Set(lines).size < lines.length) {
    throw unusable(path, `is not ${keyBytes} bytes in base64, or several such keys on a line each`);
  }
  return keys;
}

/** Answers whether there was none, so that this process has made it. */
function createMasterKeyFile(path: string): boolean {
  return writing(path, () => createFileAtomically(path, toLines([randomBytes(keyBytes)])));
}

function writeMasterKeys(path: string, keys: readonly Uint8Array[]): void {
  writing(path, () => {
    writeFileAtomically(path, toLines(keys));
  });
}

function toLines(keys: readonly Uint8Array[]): string {
  return keys.map((key) => `${Buffer.from(key).toString("base64")}\n`).join("");
}

function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (cause) {
    throw toStartError(path, cause, {
      code: "master_key_unusable",
      remedy: "Let the service write it, or give it a file with --master-key-file.",
    });
  }
}

async function readCheckValue(sql: Sql): Promise<string | undefined> {
  const row = await sql.get("select value from facts where name = 'master_key'");
  return row?.["value"] as string | undefined;
}

function unusable(path: string, what: string, cause?: unknown): StartError {
  return failure(
    path,
    `${what}. Restore the file from your backup, copy it from the node that has made the database, or name another with ` +
      "--master-key-file",
    cause,
  );
}

function failure(path: string, what: string, cause?: unknown): StartError {
  return new StartError("master_key_unusable", `The master key "${path}" ${what}.`, { cause });
}
