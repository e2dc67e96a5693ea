import { accessSync, constants, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { StartError } from "../errors.ts";
import { resultCode, SqliteConnection } from "./sqlite.ts";

const busy = 5;

/** A data folder that this process alone uses, until `close()` or its death. */
export interface DataFolder {
  readonly path: string;
  close(): void;
}

/**
 * Makes the folder where it is missing and takes it for this process. The lock is SQLite's on a file of its own: the
 * operating system lets go of it when the process ends, however it ends, so there is no stale lock to clean up.
 *
 * @throws StartError `data_folder_in_use` or `data_folder_unusable`
 */
export function openDataFolder(path: string): DataFolder {
  try {
    makeFolder(path);
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new StartError(
      "data_folder_unusable",
      `The data folder "${path}" cannot be written (${describe(cause)}). ` +
        "Make it writable for the user who runs the service, or choose another with --data-dir.",
      { cause },
    );
  }
  let lock: SqliteConnection | undefined;
  try {
    lock = new SqliteConnection(join(path, "lock"), { readOnly: false, busyTimeoutMs: 0 });
    lock.execute("pragma locking_mode = exclusive; pragma journal_mode = off; begin exclusive");
    const held = lock;
    return {
      path,
      close: () => {
        held.close();
      },
    };
  } catch (cause) {
    lock?.close();
    if (resultCode(cause) === busy) {
      throw new StartError(
        "data_folder_in_use",
        `The data folder "${path}" is in use by another process. ` +
          "Stop that one, or choose another folder with --data-dir.",
        { cause },
      );
    }
    throw new StartError(
      "data_folder_unusable",
      `The file "${join(path, "lock")}" cannot be locked (${describe(cause)}). ` +
        "Delete it, or choose a data folder on a local disk with --data-dir.",
      { cause },
    );
  }
}

/** With what leads to it. Node's own recursive way never ends where a parent exists and refuses, as in `/proc`. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
