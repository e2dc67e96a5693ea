import { open, type FileHandle } from "node:fs/promises";

/**
 * SQLite's write-ahead log, as much of it as is needed to know that commits are on disk.
 *
 * With `synchronous = full`, SQLite waits within the commit for the disk, and the event loop with it. With `normal` it
 * does not wait, and keeps the log sound all the same (https://sqlite.org/pragma.html#pragma_synchronous): whoever then
 * syncs the log by himself before he tells anybody of a commit promises just as much, while requests go on being read.
 */
export class LogFile {
  readonly #path: string;
  #file: FileHandle | null = null;

  /** @param path the database file */
  constructor(path: string) {
    this.#path = `${path}-wal`;
  }

  /**
   * Resolves when every commit that was made before is on disk.
   *
   * @throws when the disk refuses: then nobody knows what of them is there, and never will
   */
  async sync(): Promise<void> {
    // SQLite keeps the file for as long as a connection is open. It has no lock that closing this handle would lose.
    this.#file ??= await open(this.#path, "r");
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }
}
