import { accessSync, constants, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { StartError } from "../errors.ts";
import { takeFileLock, type FileLock } from "./file-lock.ts";
import { toStartError } from "./start-failure.ts";

/** A data folder that this process alone uses, until `close()` or its death. */
export interface DataFolder {
  readonly path: string;
  close(): void;
}

/**
 * Makes the folder where it is missing and takes it for this process.
 *
 * @throws StartError `data_folder_in_use`, `data_folder_unusable` or `disk_unusable`
 */
export function openDataFolder(path: string): DataFolder {
  try {
    makeFolder(path);
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw toStartError(path, cause, {
      code: "data_folder_unusable",
      remedy: "Make it a folder that the service may write, or choose another with --data-dir.",
    });
  }
  const lock = lockFolder(path);
  if (lock === null) {
    throw new StartError(
      "data_folder_in_use",
      `The data folder "${path}" is in use by another process. ` +
        "Stop that one, or choose another folder with --data-dir.",
    );
  }
  return {
    path,
    close: () => {
      lock.release();
    },
  };
}

/** Whether a process uses the data folder. */
export function isDataFolderInUse(path: string): boolean {
  if (!existsSync(join(path, "lock"))) return false;
  const lock = lockFolder(path);
  lock?.release();
  return lock === null;
}

function lockFolder(path: string): FileLock | null {
  const file = join(path, "lock");
  try {
    return takeFileLock(file);
  } catch (cause) {
    throw toStartError(file, cause, {
      code: "data_folder_unusable",
      remedy: "Delete it, or choose a data folder on a local disk with --data-dir.",
    });
  }
}

/** With what leads to it. Node's own recursive way never ends where a parent exists and refuses, as in `/proc`. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}
