import { statSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import type { StorageConfig } from "../config.ts";
import { StartError } from "../errors.ts";
import { openAdministration, type Administration } from "./administration.ts";
import { addMasterKey, dropMasterKeys, readSeal } from "./master-key.ts";
import { createResealing } from "./resealing.ts";
import { toStartError } from "./start-failure.ts";

/** What the master keys of a database are used for now. */
export interface MasterKeyStatus {
  readonly file: string;
  /** The keys of the file, the newest first. */
  readonly keys: readonly MasterKeyUse[];
  /** Keys that something is sealed with and that are not in the file: that cannot be read. */
  readonly missing: readonly MasterKeyUse[];
  /** Whether everything is sealed with the newest key, so that the older ones can be dropped. */
  readonly isComplete: boolean;
}

export interface MasterKeyUse {
  readonly id: string;
  /** How many texts it has sealed. */
  readonly texts: number;
}

/** A running service may take as long to notice a new key; until then it still seals with the one before. */
const noticedAfterMs = 10_000;
/** A running service that gets nothing done for so long meets something that it cannot read. */
const stuckAfterMs = 60_000;
const batchSize = 100;
const lookEveryMs = 500;

/** @throws StartError when the database or the file cannot be used */
export async function readMasterKeyStatus(storage: StorageConfig): Promise<MasterKeyStatus> {
  return await administrate(storage, readStatus);
}

/**
 * Adds a new master key in front of the others. A running service notices it within seconds, seals with it from then on,
 * and seals in the background what is there.
 *
 * @throws StartError when the database or the file cannot be used
 */
export async function rotateMasterKey(storage: StorageConfig): Promise<MasterKeyStatus> {
  return await administrate(storage, async (administration) => {
    await addMasterKey(administration.masterKeyFile);
    return await readStatus(administration);
  });
}

/**
 * Waits until everything is sealed with the newest key. Where no service runs that would see to it, or nobody can tell,
 * it is done here.
 *
 * @param onProgress told from time to time
 * @throws StartError when the database or the file cannot be used, or a text opens with no key
 */
export async function completeRotation(
  storage: StorageConfig,
  onProgress: (status: MasterKeyStatus) => void,
): Promise<MasterKeyStatus> {
  return await administrate(storage, async (administration) => {
    let last = "";
    let changedAt = performance.now();
    for (;;) {
      const isStuck = performance.now() - changedAt > stuckAfterMs;
      if (administration.isServed() !== true || isStuck) await resealAll(administration);
      const status = await readStatus(administration);
      if (status.isComplete || status.missing.length > 0) return status;
      const now = JSON.stringify(status);
      if (now !== last) {
        onProgress(status);
        last = now;
        changedAt = performance.now();
      }
      await setTimeout(lookEveryMs);
    }
  });
}

/**
 * Drops the older master keys that nothing is sealed with any more. Backups that were made before need them still.
 *
 * @throws StartError when the database or the file cannot be used
 */
export async function pruneMasterKeys(storage: StorageConfig): Promise<MasterKeyStatus> {
  return await administrate(storage, async (administration) => {
    const { masterKeyFile, sql } = administration;
    const resealing = createResealing(sql, readSeal(masterKeyFile));
    const ageMs = Math.max(0, Date.now() - statSync(masterKeyFile).mtimeMs);
    if (ageMs < noticedAfterMs && administration.isServed() !== false)
      await setTimeout(noticedAfterMs - ageMs);
    await dropMasterKeys(masterKeyFile, async () => new Set((await resealing.countByKey()).keys()));
    return await readStatus(administration);
  });
}

async function readStatus({ sql, masterKeyFile }: Administration): Promise<MasterKeyStatus> {
  const seal = readSeal(masterKeyFile);
  const counts = await createResealing(sql, seal).countByKey();
  const missing = [...counts].filter(([id]) => !seal.keyIds.includes(id));
  return {
    file: masterKeyFile,
    keys: seal.keyIds.map((id) => ({ id, texts: counts.get(id) ?? 0 })),
    missing: missing.map(([id, texts]) => ({ id, texts })),
    isComplete: [...counts.keys()].every((id) => id === seal.keyIds[0]),
  };
}

/** @throws StartError naming the endpoints that have a text which no key opens */
async function resealAll(administration: Administration): Promise<void> {
  const resealing = createResealing(administration.sql, readSeal(administration.masterKeyFile));
  const failed: string[] = [];
  for (let after: string | null = ""; after !== null;) {
    const from: string = after;
    const batch = await administration.transact(() => resealing.reseal(from, batchSize));
    failed.push(...batch.failed);
    after = batch.last;
  }
  if (failed.length === 0) return;
  const names = failed.slice(0, 10).map((id) => `"${id}"`);
  throw new StartError(
    "master_key_unusable",
    `Secrets of ${failed.length} endpoints, such as ${names.join(", ")}, open with no key of ` +
      `"${administration.masterKeyFile}": put the key back that they need, or give the endpoints new secrets.`,
  );
}

async function administrate<T>(
  storage: StorageConfig,
  fn: (administration: Administration) => Promise<T>,
): Promise<T> {
  const administration = await openAdministration(storage);
  try {
    return await fn(administration);
  } catch (cause) {
    throw toStartError(storage.databaseUrl === null ? storage.dataDir : "PostgreSQL", cause, {
      code: "database_unusable",
      remedy: "Look at it with hookplane db check.",
    });
  } finally {
    await administration.close();
  }
}
