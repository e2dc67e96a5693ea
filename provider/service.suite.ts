import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

/** A delivery service as the provider meets one: a process, and on the wire. */
export interface RunningService extends AsyncDisposable {
  readonly url: string;
  /** `credentials.json`, by API. */
  readonly credentials: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** Starts `hookplane serve` on a free port with a data folder of its own, which goes with it. */
export async function startService(): Promise<RunningService> {
  const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), "hookplane-provider-"));
  const command = path.join(import.meta.dirname, "..", "bin", "hookplane.js");
  const options = ["serve", "--port", "0", "--inbox", "--allow-subnet", "127.0.0.0/8", "--data-dir", dataDir];
  const child = spawn(process.execPath, [command, ...options], { stdio: ["ignore", "pipe", "ignore"] });
  const exited = once(child, "exit");
  const [line] = (await Promise.race([
    once(createInterface(child.stdout), "line"),
    exited.then(([code]) => Promise.reject(new Error(`hookplane serve ended with ${code}`))),
  ])) as [string];
  const { url } = JSON.parse(line) as { url: string };
  return {
    url,
    credentials: JSON.parse(fs.readFileSync(path.join(dataDir, "credentials.json"), "utf8")),
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await exited;
      fs.rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
