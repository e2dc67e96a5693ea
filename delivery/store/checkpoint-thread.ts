// Runs in a thread of its own: see checkpointer.ts.
import { parentPort, workerData } from "node:worker_threads";
import { SqliteConnection } from "./sqlite.ts";

/** How long a checkpoint waits for the writer to end a commit. */
const busyTimeoutMs = 1_000;
const connection = new SqliteConnection(workerData as string, { readOnly: false, busyTimeoutMs });
connection.execute("pragma synchronous = full");

parentPort?.on("message", (order: "checkpoint" | "close") => {
  if (order === "close") {
    connection.close();
    parentPort?.close();
    return;
  }
  parentPort?.postMessage(checkpoint());
});

/** Answers why it failed; null when it did not. */
function checkpoint(): string | null {
  try {
    // Nearly all of it keeps nobody waiting; the little that has come meanwhile does, so that the log can begin anew.
    connection.execute("pragma wal_checkpoint(passive)");
    connection.execute("pragma wal_checkpoint(restart)");
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
