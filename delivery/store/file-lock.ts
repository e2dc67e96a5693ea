import { accessSync, constants } from "node:fs";
import { resultCode, SqliteConnection } from "./sqlite.ts";

const busy = 5;

/** A lock that this process holds until `release()` or its death. */
export interface FileLock {
  release(): void;
}

/**
 * Locks a file, which is made where it is missing, for this process alone; null where another one holds it for longer than
 * a look at it takes. The lock is SQLite's: the operating system lets go of it when the process ends, however it ends, so
 * there is no stale lock.
 *
 * @throws Error when the file cannot be locked
 */
export function takeFileLock(path: string): FileLock | null {
  let connection: SqliteConnection | undefined;
  try {
    connection = new SqliteConnection(path, { readOnly: false, busyTimeoutMs: 250 });
    // A file that may only be read is opened all the same, and then locks nothing.
    accessSync(path, constants.R_OK | constants.W_OK);
    connection.execute("pragma locking_mode = exclusive; pragma journal_mode = off; begin exclusive");
    const held = connection;
    return {
      release: () => {
        held.close();
      },
    };
  } catch (error) {
    connection?.close();
    if (resultCode(error) === busy) return null;
    throw error;
  }
}
