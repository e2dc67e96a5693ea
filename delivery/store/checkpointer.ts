import { once } from "node:events";
import { statSync } from "node:fs";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";

/** The log is looked at after so many commits, and moved into the database from this size on. */
const commitsBetweenLooks = 128;
const fromBytes = 8 * 1024 * 1024;

/**
 * Moves SQLite's write-ahead log into the database file, in a thread of its own: a commit that has to do it itself holds
 * the event loop for tens of milliseconds, and every request with it. The thread begins when there is first something to
 * do.
 */
export class Checkpointer {
  readonly #path: string;
  readonly #onError: (reason: string) => void;
  #worker: Worker | null = null;
  #exited: Promise<unknown> = Promise.resolve();
  #isBusy = false;
  #commits = 0;

  /**
   * @param path the database file
   * @param onError hears why a checkpoint could not be made; the next one tries again
   */
  constructor(path: string, onError: (reason: string) => void) {
    this.#path = path;
    this.#onError = onError;
  }

  /** Counts a commit, and has the log moved when it is long. */
  committed(): void {
    if (++this.#commits % commitsBetweenLooks !== 0 || this.#isBusy || this.#logBytes() < fromBytes) return;
    this.#isBusy = true;
    this.#worker ??= this.#start();
    this.#worker.postMessage("checkpoint");
  }

  async close(): Promise<void> {
    this.#worker?.ref();
    this.#worker?.postMessage("close");
    await this.#exited;
  }

  #start(): Worker {
    const thread = new URL(`./checkpoint-thread${extname(import.meta.filename)}`, import.meta.url);
    const worker = new Worker(thread, { workerData: this.#path });
    this.#exited = once(worker, "exit");
    worker.unref();
    worker.on("message", (reason: string | null) => {
      this.#isBusy = false;
      if (reason !== null) this.#onError(reason);
    });
    worker.on("error", (error) => {
      this.#onError(error instanceof Error ? error.message : String(error));
      // What ended it may be over at the next look.
      this.#worker = null;
      this.#isBusy = false;
    });
    return worker;
  }

  #logBytes(): number {
    return statSync(`${this.#path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }
}
